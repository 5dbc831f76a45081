"""Vectors on disk: one immutable FAISS file per layer of a segment, and reading them.

It knows no SQL; the catalog says which segments and documents there are. It may import
``storage.files`` only.

Start with ``layer_vectors`` (a layer of a snapshot, segment by segment), then ``layer_file`` (a
mapped file) and ``codecs`` (how each precision is stored). ``faiss_library`` imports FAISS for the
whole package.
"""
