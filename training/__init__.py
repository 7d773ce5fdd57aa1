"""Train the models of this project: data, pre-training and evaluation."""
