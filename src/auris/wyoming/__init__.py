"""The Wyoming protocol, by which Home Assistant and other programs use speech recognition."""
