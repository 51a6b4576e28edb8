"""Model directories: layouts, loading, saving, and where names lead."""
