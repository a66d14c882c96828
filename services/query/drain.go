package query

// Drain ends the answers that would go on for long: exports stop with a cursor, tails with an event
// id to go on from. It is called when the server begins to drain; calling it again does nothing.
func (s *Service) Drain() { s.drainOnce.Do(func() { close(s.draining) }) }
