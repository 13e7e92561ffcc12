"""The report: what each process saw, kept in a folder, and the page that is made of it."""
