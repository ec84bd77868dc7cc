//! Open-loop load and scripted origins.
