"""Long jobs: their files and database, the store, the threads that do them, and the routes."""
