"""The comparison operators in which requirements are written."""


def holds(order: int, operator: str) -> bool:
    """Whether an operator holds where the left side is less (order below 0), equal (0) or greater."""
    return {
        "=": order == 0,
        "!=": order != 0,
        "<": order < 0,
        "<=": order <= 0,
        ">": order > 0,
        ">=": order >= 0,
    }[operator]
