throw new Error("gl is not installed: the real one would be downloaded and built, and nothing here needs it");
