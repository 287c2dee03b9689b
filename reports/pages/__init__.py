"""Pages for people: what each says (one module a topic), and how a page is rendered (templates, styles, a small script)."""
