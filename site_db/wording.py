"""Numbers in the sentences of the rules' files: one node, two nodes."""


class Count(int):
    """A number of things, which the format may name in the singular: "{:node}" is "1 node", "2,000 nodes"."""

    def __format__(self, spec: str) -> str:
        if not spec[:1].isalpha():
            return super().__format__(spec)
        return f"{int(self):,} {spec}" if self == 1 else f"{int(self):,} {spec}s"
