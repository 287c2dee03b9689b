"""Images: what each needs of a node, which catalogue names it, and on which nodes it runs."""
