"""The realtime WebSocket: audio in while it is spoken, events out while it is heard."""
