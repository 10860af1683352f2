"""What a finished run is good for: new texts in, answers out, by the code that measured."""
