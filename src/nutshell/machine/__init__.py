"""Processes, signals, disk, Hub."""
