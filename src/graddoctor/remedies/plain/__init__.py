"""What a cure consists of, as plain PyTorch: functions that a user can paste, and that import nothing of graddoctor."""
