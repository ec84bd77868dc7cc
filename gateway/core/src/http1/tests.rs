//! What is taken, what is refused, and that it does not matter how the bytes come.

mod authority;
mod body;
mod framing;
mod head;
