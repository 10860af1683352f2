"""One task for each word that `task:` may say: a function (experiment, args, resume, record) -> results."""

from nutshell.tasks.classify import classify
from nutshell.tasks.generate import generate
from nutshell.tasks.language_model import language_model

TASKS = {"classify": classify, "language_model": language_model, "generate": generate}
