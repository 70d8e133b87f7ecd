"""The options of fine-tuning by theme; `zoo.TrainConfig` is all of them together."""
