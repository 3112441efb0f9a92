"""Where examples come from: folders, arrays, files of records, and data sets that are known by name."""
