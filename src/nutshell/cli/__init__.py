"""The front door: the commands `nutshell run`, `show`, `report`, `compare`, `predict` and `score`."""
