"""The kubelet's pages: what containers use (`cadvisor`), what the node does (`kubelet`), how probes go."""
