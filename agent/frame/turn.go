package frame

// turned is how the picture that EXIF's orientation turn makes upright is stored:
// with the axes swapped, its stored lines mirrored, its stored columns upended.
func turned(turn int) (swapped, mirrored, upended bool) {
	switch turn {
	case 2:
		return false, true, false
	case 3:
		return false, true, true
	case 4:
		return false, false, true
	case 5:
		return true, false, false
	case 6:
		return true, false, true
	case 7:
		return true, true, true
	case 8:
		return true, true, false
	}
	return false, false, false
}

// stored are the axes, along stored lines and down stored columns, of what x and y
// lay out of the upright picture.
func (p *Picture) stored(x, y axis) (across, down axis) {
	w, h := p.Width, p.Height
	swapped, mirrored, upended := turned(p.turn)
	if swapped {
		x, y, w, h = y, x, h, w
	}
	if mirrored {
		x = x.reversed(w)
	}
	if upended {
		y = y.reversed(h)
	}
	size := p.img.Bounds()
	x.per, x.most = p.scale, size.Dx()
	y.per, y.most = p.scale, size.Dy()
	return x, y
}
