//! What a SQL text does, told from the text alone.
