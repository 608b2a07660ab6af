"""Node classes for tests that name them by import path."""


class Numbers:
    def __init__(self, source: str, fps: float = 0.0, loud: bool = False) -> None: ...


class Double:
    def __init__(self, factor: int = 2) -> None: ...


class Print:
    def __init__(self) -> None: ...
