"""Classifiers of many encoders: which are served, the wrapper over their stock classes."""
