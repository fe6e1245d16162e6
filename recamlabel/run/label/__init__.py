"""What a finished run knows, applied to images that it has not seen: ``recamlabel label``.

``chain`` makes the masks of one batch, ``batch`` is the one function that every engine calls, ``source`` says which
images there are, ``shards`` what is finished, ``engines`` who does the work, ``verb`` puts them together.
"""
