"""What the node does when the machine runs short: it says so, makes room, and sends pods away."""
