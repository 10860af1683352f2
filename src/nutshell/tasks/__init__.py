"""One task for each word that `task:` may say: a function (experiment, args, resume, callbacks) -> results."""

from nutshell.tasks.classify import classify

TASKS = {"classify": classify}
