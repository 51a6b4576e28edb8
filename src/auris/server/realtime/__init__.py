"""The realtime WebSocket: audio of live speech in, events with its text out."""
