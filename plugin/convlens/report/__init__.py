"""The report: results that each process stores in a folder, and the HTML page made of them."""
