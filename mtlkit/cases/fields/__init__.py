"""Cases of four fields: language, speech, health, driving. One file each."""
