"""Yours: `pipeline.py` learns, `app.py` answers, `__main__.py` hands both to tabserve."""
