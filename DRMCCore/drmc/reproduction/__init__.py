"""The paper's whole comparison made again: patients, trainings, evaluation and tables in one queue."""
