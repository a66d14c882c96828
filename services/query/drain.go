package query

// Drain ends what would go on for long, such as live streams, so that the process can stop at once;
// their clients connect again, to another process. It returns immediately and may be called twice.
func (s *Service) Drain() { s.drainOnce.Do(func() { close(s.draining) }) }
