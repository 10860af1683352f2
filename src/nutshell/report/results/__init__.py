"""What runs leave behind: the typed result of one, the runs of a folder, the seeds of an experiment summed up."""
