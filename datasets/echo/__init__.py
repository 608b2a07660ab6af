"""Hearts by ultrasound: readers of EchoNet and CAMUS, phantoms with truth, measures."""
