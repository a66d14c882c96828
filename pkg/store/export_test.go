package store

// Waiting is the number of gets of a table that wait for a request.
func Waiting(c *Client, table string) int {
	q := c.queueOf(table)
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}
