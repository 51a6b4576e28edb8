"""Who speaks when: voices of a recording, and the speakers of the words of a transcript."""
