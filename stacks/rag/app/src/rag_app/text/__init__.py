"""Language-aware handling of text: which language, which sentences, which search terms."""
