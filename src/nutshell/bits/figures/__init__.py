"""Values of single examples or stretches become figures: metrics, their intervals, and the file they are kept in."""
