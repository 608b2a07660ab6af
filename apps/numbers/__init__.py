"""What `retain bench` keeps: records of every run, the page they give, and a picture over time."""
