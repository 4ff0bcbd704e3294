"""Priority and fairness: FlowSchemas say of which level a request is, levels how many go on at once."""
