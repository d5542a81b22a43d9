# Fetches, stores, lists and renames with Ruby's Net::FTP, in the current folder: HOST USER PASSWORD passive|active
require 'net/ftp'

host, user, password, mode = ARGV
ftp = Net::FTP.new(nil, passive: mode == 'passive', open_timeout: 10, read_timeout: 10, debug_mode: true)
ftp.connect(host)
ftp.login(user, password)
ftp.getbinaryfile('shelf/big.bin', 'in/big.bin')
ftp.putbinaryfile('in/big.bin', 'inbox/back.bin')
raise 'another size' unless ftp.size('inbox/back.bin') == File.size('in/big.bin')
ftp.rename('inbox/back.bin', 'inbox/again.bin')
raise 'not listed' unless ftp.nlst('inbox').any? { |name| name.end_with?('again.bin') }
raise 'no listing' unless ftp.list('inbox').any? { |line| line.end_with?('again.bin') }
ftp.getbinaryfile('inbox/again.bin', 'in/again.bin')
raise 'other bytes' unless File.binread('in/again.bin') == File.binread('in/big.bin')
ftp.delete('inbox/again.bin')
ftp.quit
