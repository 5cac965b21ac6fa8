"""Naver's shopping search as its documents describe it, over a small catalogue of things for a desk."""
