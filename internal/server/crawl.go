package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
)

const (
	crawlEvery     = 15 * time.Second // how often it looks for what is due
	crawlsAtOnce   = 2                // registries that are read at the same time
	crawlStep      = 8                // images of one registry before others get their turn
	scanWithin     = 30 * time.Minute
	retryFirst     = time.Minute
	retryMost      = 6 * time.Hour
	limitedFor     = 10 * time.Minute
	listWithin     = 10 * time.Minute
	maxErrorLength = 500
)

// crawler reads registries. What it has to do stands in the database, so that
// one that is killed goes on where it was. Safe for concurrent use.
type crawler struct {
	wake chan struct{}
	room chan struct{} // holds one value per registry that is read

	mu      sync.Mutex
	busy    map[string]bool
	clients map[string]*image.Registry // connections and tokens are used again
}

func newCrawler() *crawler {
	return &crawler{wake: make(chan struct{}, 1), room: make(chan struct{}, crawlsAtOnce), busy: map[string]bool{}, clients: map[string]*image.Registry{}}
}

func (c *crawler) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default: // it is awake
	}
}

// forget drops the client of a registry whose settings changed.
func (c *crawler) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.clients, name)
}

// take says whether nobody reads the registry yet, and takes it.
func (c *crawler) take(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[name] {
		return false
	}
	c.busy[name] = true
	return true
}

func (c *crawler) release(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, name)
}

func (s *Server) registryClient(r store.Registry) (*image.Registry, error) {
	s.crawler.mu.Lock()
	defer s.crawler.mu.Unlock()
	if have := s.crawler.clients[r.Name]; have != nil {
		return have, nil
	}
	made, err := s.client(r)
	if err == nil {
		s.crawler.clients[r.Name] = made
	}
	return made, err
}

// crawl reads registries until ctx ends.
func (s *Server) crawl(ctx context.Context) error {
	tick := time.NewTicker(crawlEvery)
	defer tick.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		all, err := s.store.Registries(ctx)
		if err != nil && ctx.Err() == nil {
			s.o.Log.Error("registries are not read", "error", err)
		}
		for _, r := range all {
			if s.crawler.take(r.Name) {
				running.Go(func() { s.crawlTurn(ctx, r) })
			}
		}
		select {
		case <-tick.C:
		case <-s.crawler.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// crawlTurn is one turn of one registry; it asks for another one when there is
// more to do.
func (s *Server) crawlTurn(ctx context.Context, r store.Registry) {
	select {
	case s.crawler.room <- struct{}{}:
	case <-ctx.Done():
		return
	}
	more, err := s.crawlRegistry(ctx, r)
	<-s.crawler.room
	s.crawler.release(r.Name)
	if err != nil && ctx.Err() == nil {
		s.o.Log.Warn("registry", "registry", r.Name, "error", err)
	}
	if more && ctx.Err() == nil {
		s.crawler.wakeUp()
	}
}

func (s *Server) crawlRegistry(ctx context.Context, r store.Registry) (more bool, err error) {
	client, err := s.registryClient(r)
	if err != nil {
		return false, s.listed(ctx, r, err)
	}
	if !r.Due.After(s.o.Now()) {
		within, cancel := context.WithTimeout(ctx, listWithin)
		err := s.listRegistry(within, r, client)
		cancel()
		if ctx.Err() != nil {
			return false, ctx.Err() // it is listed again after the start
		}
		if err := s.listed(ctx, r, err); err != nil {
			return false, err
		}
	}
	for range crawlStep {
		count, err := s.store.CountTargets(ctx, r.Name)
		if err != nil || count.Recent >= r.Budget {
			return false, err
		}
		target, err := s.store.NextTarget(ctx, r.Name)
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		if err == nil {
			err = s.readTarget(ctx, r, client, target)
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// listed notes how a listing ended, and when the next one begins.
func (s *Server) listed(ctx context.Context, r store.Registry, problem error) error {
	if problem == nil {
		return s.store.RegistryListed(ctx, r.Name, s.o.Now().Add(r.Every), "")
	}
	wait := retryFirst
	if image.Limited(problem) {
		wait = limitedFor
	}
	return s.store.RegistryListed(ctx, r.Name, s.o.Now().Add(min(wait, r.Every)), cut(problem))
}

// cut bounds what a registry says.
func cut(err error) string {
	text := err.Error()
	return text[:min(len(text), maxErrorLength)]
}

// listRegistry finds the tags that shall be read. What is wrong with one
// repository does not keep it from the others.
func (s *Server) listRegistry(ctx context.Context, r store.Registry, client *image.Registry) error {
	repositories, err := repositoriesOf(ctx, r, client)
	if err != nil {
		return err
	}
	running, err := s.store.RunningReferences(ctx)
	if err != nil {
		return err
	}
	for _, repo := range repositories {
		err := s.listRepository(ctx, r, client, repo, running)
		if ctx.Err() != nil || image.Limited(err) {
			return errors.Join(err, ctx.Err())
		}
		t := store.RegistryTarget{Registry: r.Name, Repository: repo, Due: s.o.Now()}
		if err != nil {
			t.Error = cut(err)
		}
		if err := s.store.ReadTarget(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// repositoriesOf are those that are named, and those of the catalog that
// patterns mean.
func repositoriesOf(ctx context.Context, r store.Registry, client *image.Registry) ([]string, error) {
	var out []string
	catalog := false
	for _, p := range r.Repositories {
		if isPattern(p) {
			catalog = catalog || p[0] != '!'
		} else {
			out = append(out, p)
		}
	}
	if catalog {
		all, err := client.Repositories(ctx, r.Address, maxRepositories)
		if err != nil {
			return nil, fmt.Errorf("its catalog: %w", err)
		}
		for _, repo := range all {
			if wanted(r.Repositories, repo) {
				out = append(out, repo)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (s *Server) listRepository(ctx context.Context, r store.Registry, client *image.Registry, repo string, running map[string]bool) error {
	all, err := client.Tags(ctx, r.Address+"/"+repo, maxTagsOfOneRepo)
	if err != nil {
		return err
	}
	tags := slices.DeleteFunc(all, func(tag string) bool { return !wanted(r.Tags, tag) })
	slices.Sort(tags)
	runs := func(tag string) bool { return running[r.Address+"/"+repo+":"+tag] }
	if drop := len(tags) - r.MostTags; drop > 0 { // what runs stays, whatever its name
		tags = append(slices.DeleteFunc(slices.Clone(tags[:drop]), func(tag string) bool { return !runs(tag) }), tags[drop:]...)
	}
	if err := s.store.ForgetTargets(ctx, r.Name, repo, tags); err != nil {
		return err
	}
	for _, tag := range tags {
		t := store.RegistryTarget{Registry: r.Name, Repository: repo, Tag: tag}
		if runs(tag) {
			t.Priority = store.PriorityRunning
		}
		known, err := s.store.Target(ctx, r.Name, repo, tag)
		if err == nil && known.Manifest != "" {
			now, err := client.Digest(ctx, r.Address+"/"+repo+":"+tag)
			if err != nil {
				return err
			}
			lacks := false
			if now == known.Manifest {
				if lacks, err = s.lacks(ctx, known.Image); err != nil {
					return err
				}
			}
			if now == known.Manifest && !lacks { // what was read still stands
				continue
			}
		}
		if err := s.store.WantTarget(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// readTarget reads one image and notes what came of it. An error is the store's
// or ctx's.
func (s *Server) readTarget(ctx context.Context, r store.Registry, client *image.Registry, t store.RegistryTarget) error {
	err := s.readImage(ctx, r, client, &t)
	if ctx.Err() != nil {
		return ctx.Err() // it waits still
	}
	if err != nil {
		wait := retryFirst << min(t.Failures, 10)
		if image.Limited(err) {
			wait = max(wait, limitedFor)
			if err := s.store.ListRegistryAt(ctx, r.Name, s.o.Now().Add(wait)); err != nil {
				return err
			}
		}
		t.Error, t.Due = cut(err), s.o.Now().Add(min(wait, retryMost))
		s.o.Log.Warn("image of a registry not read", "registry", r.Name, "repository", t.Repository, "tag", t.Tag, "error", err)
	}
	return s.store.ReadTarget(ctx, t)
}

// readImage fills in the target's digests. Content that is known by its digest,
// and was looked through for all that policy asks about, is not read again.
func (s *Server) readImage(ctx context.Context, r store.Registry, client *image.Registry, t *store.RegistryTarget) error {
	ctx, cancel := context.WithTimeout(ctx, scanWithin)
	defer cancel()
	reference := r.Address + "/" + t.Repository + ":" + t.Tag
	digest, err := client.Digest(ctx, reference)
	if err != nil {
		return err
	}
	exact := r.Address + "/" + t.Repository + "@" + digest // the tag may move meanwhile
	src, err := client.Open(ctx, exact, r.Platform, image.Limits{})
	if err != nil {
		return err
	}
	config := src.Digest
	if err := src.Close(); err != nil {
		return err
	}
	t.Manifest, t.Image, t.Error = digest, config, ""
	known, err := s.store.AddReference(ctx, config, reference)
	if err == nil && known {
		var lacks bool
		lacks, err = s.lacks(ctx, config)
		known = !lacks
	}
	if err != nil || known {
		return err
	}
	rep, err := s.scanImage(ctx, r, client, exact)
	if err != nil {
		return err
	}
	return s.keepRead(ctx, rep, reference)
}

func (s *Server) keepRead(ctx context.Context, rep *report.Report, reference string) error {
	if rep.Integrity == "" {
		return errors.New("its layers are not those that its configuration names: nothing of it is kept")
	}
	rep.Target = reference
	rep.Image.References = append([]string{reference}, slices.DeleteFunc(rep.Image.References, func(n string) bool { return n == reference })...)
	if err := s.store.PutReport(ctx, *rep); err != nil {
		return err
	}
	s.judge(ctx, []string{rep.Image.Digest})
	return nil
}
