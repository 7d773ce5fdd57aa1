"""`synseg live`: a web page that shows a feed with its masks, and takes labels from users while it runs."""
