"""Faiss indexes over embeddings tables: built, published, searched."""
