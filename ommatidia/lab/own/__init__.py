"""Parts of a user's own: skeletons to start from (``omma new``), and the contract they keep (``omma check-part``)."""
