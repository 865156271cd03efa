"""What the whole way costs: commands on a table, and functions entered by a call."""
