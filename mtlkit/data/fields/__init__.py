"""Data of four fields: language, speech, health, driving."""
