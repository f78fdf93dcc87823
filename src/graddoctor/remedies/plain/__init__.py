"""What a cure consists of, as plain PyTorch: functions that a user can paste as they are."""
