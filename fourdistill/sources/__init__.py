"""Raw captures as scenes: format readers, public data sets, and inspection of folders."""
