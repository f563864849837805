"""The paper's argument on any data: arms that differ in one thing, from one front end, and what they show."""
