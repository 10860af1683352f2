"""The front door: the commands `nutshell run`, `show`, `report` and `compare`."""
